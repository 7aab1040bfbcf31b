import {
  to = bunting_flag.new_cart
  id = "checkout/new-cart"
}
