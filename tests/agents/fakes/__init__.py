"""Fake servers of voice models, one module for each vendor, proven by the vendors' own SDKs (`tests.agents.sdks`)."""
