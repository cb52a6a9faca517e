"""What guidance by brain responses comes to: statistics, verdict sentences, figures and a page."""
