"""What a person looks at: tables, the contact sheet and the HTML report."""
