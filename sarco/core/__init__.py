"""The ground: errors, words, files that are whole or not there, options and the parser made from them."""
