"""Voice agents made with frameworks as they are, in an environment of their own."""
