import {
  to = bunting_kill_switch.new_cart
  id = "checkout/new-cart:terraform/checkout"
}
