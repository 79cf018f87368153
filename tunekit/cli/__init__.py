"""The command line: it parses and prints. No decision is taken here."""
