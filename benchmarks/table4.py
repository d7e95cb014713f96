"""Table 4 on CelebA, with the claims of the paper and the ambiguities that may matter: one command, in pieces.

    python benchmarks/table4.py choose --data PATH/TO/celeba
    python benchmarks/table4.py run --data PATH/TO/celeba --images-seen 12800 --learning-rate 4e-4
    python benchmarks/table4.py run --data PATH/TO/celeba --size 160 --minutes 10
    OMP_NUM_THREADS=1 python benchmarks/table4.py run --data PATH/TO/celeba --stages ambiguities

``choose`` trains the four models at several learning rates with a seed of its own and scores validation images only.
``run`` goes through every stage below, three seeds each, and scores the test images. Given again it
continues where it was: finished cells are kept, a training resumes from its checkpoint. ``--minutes`` stops it (as
Ctrl-C does) after that long. ``--dry-run`` prints the commands.

On two cores, two processes of one thread train MGS-IIM 1.10 to 1.27 times as fast as one process of two threads
(docs/measurements/perf-cpu.md): give ``OMP_NUM_THREADS=1`` and ``--jobs 2``, or two commands with ``--stages``
of their own.
"""

from __future__ import annotations

import argparse
import shlex
import signal
import subprocess
import sys
import time

FOUR = "context-encoder,glcic,pconv,mgs-iim"
BASELINES = "mean,mean-image,biharmonic,linear"
ABLATIONS = "mgs-iim-no-gate,mgs-iim-no-sn,mgs-iim-single-d,mgs-iim-no-skip"
LEARNING_RATES = ("2e-4", "4e-4", "8e-4")
#: The seed of ``choose``: none of those that are reported.
CHOICE_SEED = 100
#: Name of an experiment -> options of MGS-IIM that resolve one of the paper's ambiguities the other way.
AMBIGUITIES = {
    "whole-image": ("--set", "mgs-iim.valid_weight=1"),
    "sgd": ("--track", "faithful"),
    "sgd-image": ("--track", "faithful", "--set", "mgs-iim.mse_reduction=image"),
    "sgd-sum": ("--track", "faithful", "--set", "mgs-iim.mse_reduction=sum"),
    "sgd-sum-no-momentum": (
        *("--track", "faithful", "--set", "mgs-iim.mse_reduction=sum"),
        *("--set", "mgs-iim.momentum=0.0"),
    ),
    "gate-all": ("--set", "mgs-iim.gate=all"),
    "skips-concat": ("--set", "mgs-iim.skips=concat"),
    "act-gate": ("--set", "mgs-iim.activation_order=act-gate"),
    "sn-all": ("--set", "mgs-iim.spectral_norm=all"),
}
STAGES = ("table", "perceptual", "ablations", "ambiguities", "masks")


def choices(options: argparse.Namespace) -> list[list[str]]:
    """List a run for each learning rate, on validation images."""
    return [
        [
            *(
                "--models",
                FOUR,
                "--mask",
                "center",
                "--evaluate-on",
                "validation",
                "--seeds",
                str(CHOICE_SEED),
            ),
            *("--images-seen", str(options.images_seen), "--learning-rate", rate, "--no-pictures"),
            *("--name", f"{options.name}-choose-{rate}"),
        ]
        for rate in LEARNING_RATES
    ]


def stages(options: argparse.Namespace) -> list[list[str]]:
    """List the runs of the table, PConv with its published losses, the claims, the ambiguities and the other masks."""
    name = options.name
    common = ["--images-seen", str(options.images_seen), "--learning-rate", options.learning_rate]
    common += ["--seeds", options.seeds, "--metrics", "secondary"]
    # The ablations go into the table's own experiment, where they are compared with its MGS-IIM.
    main = ["--mask", "center", "--name", name, *common]
    # A crop of the bare hole, half of the side; the default shows a ring around it.
    local = {64: "local-32", 160: "local-80"}.get(options.size)
    ambiguities: dict[str, tuple[str, str]] = {}
    if local:
        ambiguities[local] = ("--set", f"mgs-iim.local_size={local.removeprefix('local-')}")
    ambiguities |= AMBIGUITIES
    found = {
        "table": [["--models", f"{FOUR},{BASELINES}", *main]],
        # Under a name of its own: one experiment holds one version of a model.
        "perceptual": [
            [
                *("--models", "pconv", "--set", "pconv.vgg_losses=required", "--mask", "center"),
                *("--name", f"{name}-perceptual", *common),
            ]
        ],
        "ablations": [["--models", ABLATIONS, *main]],
        "ambiguities": [
            ["--models", "mgs-iim", "--mask", "center", *how, "--name", f"{name}-{what}", *common]
            for what, how in ambiguities.items()
        ],
        "masks": [
            ["--models", f"{FOUR},{BASELINES}", "--mask", mask, "--name", f"{name}-{mask}", *common]
            for mask in ("random-rect", "shapes", "freeform")
        ],
    }
    return [command for stage in options.stages for command in found[stage]]


def main() -> None:
    parser = argparse.ArgumentParser(
        description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter
    )
    parser.add_argument("what", choices=["choose", "run"])
    parser.add_argument("--data", required=True, help="CelebA: its folder")
    parser.add_argument("--size", type=int, default=64)
    parser.add_argument("--images-seen", type=int, default=12_800, help="budget of each training")
    parser.add_argument("--learning-rate", default="4e-4", help="of the uniform track, as chosen")
    parser.add_argument("--seeds", default="0,1,2")
    parser.add_argument(
        "--name", help="of the experiment, and the beginning of the others' names: table4-SIZE"
    )
    parser.add_argument("--stages", default=",".join(STAGES), help="of 'run': names with commas between")
    parser.add_argument("--jobs", type=int, default=1, help="trainings side by side")
    parser.add_argument("--device", default="auto")
    parser.add_argument("--test-images", default="all")
    parser.add_argument("--minutes", type=float, help="stop after so long")
    parser.add_argument("--dry-run", action="store_true", help="print the commands only")
    options = parser.parse_args()
    options.stages = options.stages.split(",")
    options.name = options.name or f"table4-{options.size}"
    if unknown := set(options.stages) - set(STAGES):
        parser.error(f"no stage {', '.join(sorted(unknown))}; there are {', '.join(STAGES)}")
    everywhere = ["--data", options.data, "--size", str(options.size), "--device", options.device]
    everywhere += ["--test-images", options.test_images, "--jobs", str(options.jobs)]
    end = time.monotonic() + 60 * options.minutes if options.minutes else float("inf")
    for arguments in (choices if options.what == "choose" else stages)(options):
        command = ["bench", "run", *arguments, *everywhere]
        print(shlex.join(command), flush=True)
        if options.dry_run:
            continue
        # The time is for all stages together, so each gets what the ones before it left.
        left = end - time.monotonic()
        if left <= 0:
            sys.exit("time is up; give the command again to go on")
        process = subprocess.Popen([sys.executable, "-P", "-m", *command, "--quiet"])
        try:
            code = process.wait(None if left == float("inf") else left)
        except subprocess.TimeoutExpired:
            # The run writes a checkpoint before it ends, so it is waited for without a limit.
            process.send_signal(signal.SIGTERM)
            process.wait()
            sys.exit("time is up; give the command again to go on")
        if code:
            sys.exit(code)


if __name__ == "__main__":
    main()
