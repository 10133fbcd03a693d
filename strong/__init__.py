"""A stronger network for CIFAR-10 than the lab's, and how it is trained: see README.md here."""
