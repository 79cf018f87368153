"""From what the user asked to a decided plan. Everything here is pure: it reads, it never writes or runs."""
