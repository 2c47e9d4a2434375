"""Treatment: what a diagnosis prescribes, tried against a control over paired seeds."""
