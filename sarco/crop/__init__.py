"""The body, the grid around it, and a slice on its way there and back."""
