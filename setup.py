"""What pyproject.toml cannot say yet: a module that is compiled, and that the package does without if it cannot be."""

from setuptools import Extension, setup

setup(ext_modules=[Extension("simqueue.sim.recursions", ["simqueue/sim/recursions.pyx"], optional=True)])
