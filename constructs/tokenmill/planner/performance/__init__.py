"""How long decode steps and prefills take: roofline terms with factors fitted on published measurements."""
