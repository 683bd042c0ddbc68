"""Files of the results: how they are written and read, and the certificates they carry."""
