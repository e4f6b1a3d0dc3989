// Weight-stationary machine: weights stay, activations stream, one bias per column.
module ws #(
    parameter ROWS = 4,
    parameter COLS = 4,
    parameter WEIGHT_BITS = 8,
    parameter WEIGHT_SIGNED = 1,
    parameter ACT_BITS = 8,
    parameter ACT_SIGNED = 1,
    parameter PSUM_BITS = 24,
    parameter PSUM_SATURATE = 0,
    parameter BIAS_BITS = 32,
    parameter ACC_BITS = 32,
    parameter ACC_SATURATE = 0,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter BANKS = 1,
    parameter PLACES = 64,
    parameter ADDRESS_BITS = 16
) (
    input wire clk,
    input wire reset,
    input wire run,
    output wire busy,
    input wire [ADDRESS_BITS-1:0] fold_count,
    output wire [ADDRESS_BITS-1:0] fold,
    input wire [ADDRESS_BITS-1:0] fold_length,
    input wire fold_first,
    input wire fold_final,
    input wire [ADDRESS_BITS-1:0] fold_bias,
    output wire [ADDRESS_BITS-1:0] weight_address,
    input wire [COLS*LANES*WEIGHT_BITS-1:0] weight_word,
    output wire [ADDRESS_BITS-1:0] activation_address,
    input wire [ROWS*LANES*ACT_BITS-1:0] activation_word,
    output wire [ADDRESS_BITS-1:0] bias_address,
    input wire [COLS*BIAS_BITS-1:0] bias_word,
    output wire [COLS*PSUM_BITS-1:0] bottom,
    output wire [COLS-1:0] bottom_valid,
    output wire [ROWS*COLS-1:0] overflow,
    output wire [COLS*ACC_BITS-1:0] total,
    output wire [COLS-1:0] total_final,
    output wire [COLS-1:0] total_overflow,
    output wire [COLS-1:0] total_bias_overflow
);
    stationary #(
        .ROWS(ROWS), .COLS(COLS), .MOVING_BITS(ACT_BITS), .MOVING_SIGNED(ACT_SIGNED), .STILL_BITS(WEIGHT_BITS),
        .STILL_SIGNED(WEIGHT_SIGNED), .PSUM_BITS(PSUM_BITS), .PSUM_SATURATE(PSUM_SATURATE), .BIAS_BITS(BIAS_BITS),
        .ACC_BITS(ACC_BITS), .ACC_SATURATE(ACC_SATURATE), .LANES(LANES), .DEPTH(DEPTH), .BANKS(BANKS),
        .PLACES(PLACES), .BIAS_PER_ELEMENT(0), .ADDRESS_BITS(ADDRESS_BITS)
    ) core (
        .clk(clk), .reset(reset), .run(run), .busy(busy), .fold_count(fold_count), .fold(fold),
        .fold_length(fold_length), .fold_first(fold_first), .fold_final(fold_final), .fold_bias(fold_bias),
        .load_address(weight_address), .load_word(weight_word), .stream_address(activation_address),
        .stream_word(activation_word), .bias_address(bias_address), .bias_word(bias_word), .bottom(bottom),
        .bottom_valid(bottom_valid), .overflow(overflow), .total(total), .total_final(total_final),
        .total_overflow(total_overflow), .total_bias_overflow(total_bias_overflow)
    );
endmodule
