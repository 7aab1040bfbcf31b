# The id is the flag's key, a colon, and the entity.
terraform import bunting_override.acme shop/theme:acme
