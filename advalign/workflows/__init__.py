"""What joins several floors: train and register, publish, study, verify."""
