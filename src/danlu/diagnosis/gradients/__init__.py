"""Are gradients right? Held against finite differences, in float64."""
