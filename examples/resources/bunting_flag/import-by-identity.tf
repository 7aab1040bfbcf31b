import {
  to = bunting_flag.new_cart
  identity = {
    key = "checkout/new-cart"
  }
}
