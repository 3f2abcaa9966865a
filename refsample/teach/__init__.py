"""What every parameter did to every candidate. Knows laws and traces, nothing of providers or HTTP."""
