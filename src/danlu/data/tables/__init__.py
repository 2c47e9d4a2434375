"""Tables: what each column holds, and the features and targets that its cells become."""
