"""The statements; SQL appears here and in the engine only."""
