"""Where models come from, how they are loaded, and which are serving."""
