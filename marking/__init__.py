"""What grade.py needs to mark submissions: reading them, running them within limits, reporting."""
