"""The application: builds and connects its components, and stops them in order."""
