"""The method of the paper: feedback, temperature, Lipschitz budget, and the methods that are compared."""
