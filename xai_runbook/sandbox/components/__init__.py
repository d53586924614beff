"""The sandbox's servers, one module each, and the programs that they need."""
