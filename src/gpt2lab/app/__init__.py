"""What only composes the floors below: the demo with its report, and the doctor."""
