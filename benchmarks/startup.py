"""How long a person waits for the first word: the median of a few starts of each quick command.

python benchmarks/startup.py [REPEATS]
"""

from __future__ import annotations

import statistics
import subprocess
import sys
import time

#: Words of the command, and the seconds that it should stay under.
COMMANDS = {
    ("--help",): 0.2,
    ("list",): 0.5,
    ("run", "--help"): 0.5,
    ("completion", "bash"): 0.5,
    ("status",): 0.5,
}


def seconds(words: tuple[str, ...]) -> float:
    began = time.perf_counter()
    # A new process each time: imports are what is measured.
    subprocess.run([sys.executable, "-P", "-m", "bench", *words], check=True, stdout=subprocess.DEVNULL)
    return time.perf_counter() - began


if __name__ == "__main__":
    repeats = int(sys.argv[1]) if len(sys.argv) > 1 else 11
    print(f"| command | median of {repeats} (s) | goal (s) |\n|---|---:|---:|")
    for words, goal in COMMANDS.items():
        found = statistics.median(seconds(words) for _ in range(repeats))
        print(f"| `bench {' '.join(words)}` | {found:.2f} | {goal} |")
