"""The controls, one file each: a pure function and the kernel it trusts."""
