"""The pages. A view reads as: fetch with permission, guard, change, respond."""
