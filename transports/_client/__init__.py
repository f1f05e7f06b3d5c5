"""The code that all transports share: driver, client methods, settings, failures and encodings."""
