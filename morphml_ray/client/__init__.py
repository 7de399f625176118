"""What users hold: facades over actor handles, in any process of the cluster."""
