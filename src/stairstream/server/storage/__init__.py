"""What the server keeps, behind one seam."""
