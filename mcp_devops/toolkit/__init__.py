"""How a tool is declared, and what it is handed when it runs. No tool and no system lives here."""
