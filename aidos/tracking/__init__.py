"""What a training writes down: ``aidos.run()``, the buffer that its metrics wait in, and where its code stood."""
