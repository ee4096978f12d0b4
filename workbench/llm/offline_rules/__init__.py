"""The rules of the offline writer: how a request is read (request), how well it is answered (skill), and what is written."""
