"""Digests of the code that decides a number: the definitions reachable from given functions and classes, and no others.

A definition is a top-level function or assignment of a module, a class without its methods, or one method. Starting
from the roots, every name that a definition mentions is followed into the packages of this program and into the folder
of a user's model file. The rules, all of which include rather than leave out:

* a name leads to the definition it is bound to, through imports and aliases; a module that is used other than by
  ``module.name`` leads to everything in it;
* a method counts as soon as anything that counts mentions its name, as an attribute or in a string; of a class with a
  base from elsewhere (``nn.Module``), which may call anything, every method counts;
* annotations lead on as any other name does, although they are not part of what is digested;
* a decorated function, which may be an entry of a registry, counts if its module does and its name is mentioned;
* a definition that uses ``globals``, ``eval`` or ``importlib`` leads to everything in its module;
* statements at the top level of a module that define nothing (``torch.set_...``) count with anything in it.

What is digested is the syntax tree without docstrings, comments, annotations, import statements, the text of errors,
file names and the order of definitions. A name is digested as what it refers to, so that a function may move to another
file, and an import may be written otherwise. Nothing is imported to make a digest.

Modules that show, log, estimate, export or save are where the search stops (:data:`bench.code_digest.closure.OUTSIDE`).
"""

from bench.code_digest.closure import CodeDigest, closure
from bench.code_digest.qualified_names import QualifiedName, bound_arguments, qualified_name
from bench.code_digest.source_tree import PACKAGES, SourceTree, program_source

__all__ = [
    "PACKAGES",
    "CodeDigest",
    "QualifiedName",
    "SourceTree",
    "bound_arguments",
    "closure",
    "program_source",
    "qualified_name",
]
