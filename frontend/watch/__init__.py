"""What traced code reads and changes in Python, seen instruction by instruction."""
