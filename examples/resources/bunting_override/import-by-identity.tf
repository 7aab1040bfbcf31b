import {
  to = bunting_override.acme
  identity = {
    flag_key  = "shop/theme"
    entity_id = "acme"
  }
}
