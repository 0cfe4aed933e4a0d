"""`python -m vlsmctl`, which launchers such as torchrun need."""

from vlsmctl.cli import main

main()
