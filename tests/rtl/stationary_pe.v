// One PE of a weight- or input-stationary array.
//
// Multiplies the arriving operand with its selected stationary register; at the clock edge the moving register takes the
// arriving operand and the sum register takes rule(sum from above + product). Stationary registers take from above
// while `shift` is up: the one that `load_bank` names, of BANKS = 1 or 2 (ping-pong).
module stationary_pe #(
    parameter MOVING_BITS = 8,
    parameter MOVING_SIGNED = 1,
    parameter STILL_BITS = 8,
    parameter STILL_SIGNED = 1,
    parameter PSUM_BITS = 24,
    parameter PSUM_SATURATE = 0,
    parameter LANES = 1,
    parameter DEPTH = 1,
    parameter BANKS = 1
) (
    input wire clk,
    input wire reset,
    input wire [LANES*MOVING_BITS-1:0] moving_in,
    output reg [LANES*MOVING_BITS-1:0] moving,
    input wire select_in,
    output reg select,
    input wire shift,
    input wire load_bank,
    input wire [LANES*STILL_BITS-1:0] still_in,
    output wire [LANES*STILL_BITS-1:0] still_out,
    input wire signed [PSUM_BITS-1:0] sum_in,
    output reg signed [PSUM_BITS-1:0] sum,
    output wire overflow
);
    localparam PRODUCT_BITS = MOVING_BITS + STILL_BITS + 2 + $clog2(LANES);
    localparam EXACT_BITS = (PRODUCT_BITS > PSUM_BITS ? PRODUCT_BITS : PSUM_BITS) + 1;

    wire [LANES*STILL_BITS-1:0] chosen;
    reg [LANES*STILL_BITS-1:0] still_0;
    always @(posedge clk)
        if (reset) still_0 <= {LANES*STILL_BITS{1'b0}};
        else if (shift && !load_bank) still_0 <= still_in;
    generate
        if (BANKS == 2) begin : g_two
            reg [LANES*STILL_BITS-1:0] still_1;
            always @(posedge clk)
                if (reset) still_1 <= {LANES*STILL_BITS{1'b0}};
                else if (shift && load_bank) still_1 <= still_in;
            assign chosen = select_in ? still_1 : still_0;
            assign still_out = load_bank ? still_1 : still_0;
        end else begin : g_one
            assign chosen = still_0;
            assign still_out = still_0;
        end
    endgenerate

    wire signed [PRODUCT_BITS-1:0] multiplied;
    product #(
        .A_BITS(MOVING_BITS), .A_SIGNED(MOVING_SIGNED), .B_BITS(STILL_BITS), .B_SIGNED(STILL_SIGNED),
        .LANES(LANES), .DEPTH(DEPTH), .OUT_BITS(PRODUCT_BITS)
    ) multiplier (.clk(clk), .reset(reset), .a(moving_in), .b(chosen), .out(multiplied));

    wire signed [PSUM_BITS-1:0] held;
    wire signed [EXACT_BITS-1:0] exact = {{(EXACT_BITS-PSUM_BITS){sum_in[PSUM_BITS-1]}}, sum_in}
        + {{(EXACT_BITS-PRODUCT_BITS){multiplied[PRODUCT_BITS-1]}}, multiplied};
    obey #(.IN_BITS(EXACT_BITS), .BITS(PSUM_BITS), .SATURATE(PSUM_SATURATE)) rule (
        .exact(exact), .held(held), .overflow(overflow)
    );

    always @(posedge clk)
        if (reset) begin
            moving <= {LANES*MOVING_BITS{1'b0}};
            select <= 1'b0;
            sum <= {PSUM_BITS{1'b0}};
        end else begin
            moving <= moving_in;
            select <= select_in;
            sum <= held;
        end
endmodule
