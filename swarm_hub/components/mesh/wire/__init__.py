"""What goes over a session: frames, queues, credit, requests and replies."""
