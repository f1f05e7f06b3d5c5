"""What all transports share: driver, methods, settings, environment, failures, encodings."""
