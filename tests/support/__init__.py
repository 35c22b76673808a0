"""What tests share: people, pictures, clouds, faults."""
