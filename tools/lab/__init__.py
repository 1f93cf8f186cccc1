"""What ``./lab`` does, behind the shell script of that name."""
