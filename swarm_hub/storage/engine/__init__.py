"""The databases behind the store, and the one writer."""
