"""The ground floor: jitted kernels and their definitions. It knows nothing of refsample."""
