"""Questions asked of the recipes, each with its own figures for an answer."""
