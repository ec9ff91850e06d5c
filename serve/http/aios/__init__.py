"""The wire format of the AIOS kernel: queries in, replies out."""
