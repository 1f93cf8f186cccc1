"""What the bench plays with: the load generator, and the bridges to compare with."""
