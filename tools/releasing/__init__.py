"""``tools/release``: build, check, install and call with everything that a release consists of."""
