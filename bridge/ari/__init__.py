"""A small asynchronous client for the Asterisk REST Interface, with ari-py's vocabulary."""
