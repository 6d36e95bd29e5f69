"""What is measured: one file per program, tried in the order of their names unless BENCH_PROGRAMS says otherwise.

A program's file has
    DESCRIPTION      one line for the table
    missing()        why it cannot run here, or None
    start(router)    loads its rules, starts it in the router's namespace, returns its processes once it serves
    TARGETS          what it must reach: (test, column, ">=" or "<=", number, program compared with, or None = absolute)
"""

import importlib
import os
import pkgutil


def names():
    found = [module.name for module in pkgutil.iter_modules([os.path.dirname(__file__)])]
    wanted = os.environ.get("BENCH_PROGRAMS")
    return wanted.split() if wanted else found


def load(name):
    return importlib.import_module(f"programs.{name}")
