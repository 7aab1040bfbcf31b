import {
  to = bunting_override.acme
  id = "shop/theme:acme"
}
