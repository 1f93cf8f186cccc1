"""The application: builds and wires everything, and takes it down in order."""
